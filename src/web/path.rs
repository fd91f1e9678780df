//! Matches requests with routes of the table, and reads the variable segments of their paths.

use crate::api::Route;
use http::Method;
use std::{convert::Infallible, future, str::FromStr};
use warp::{Filter, filters::BoxedFilter, path::FullPath};

/// What the variable segments of a path stand for.
pub trait FromSegments: Sized + Send + 'static {
    /// Reads the segments, percent-decoded; `None` if they can't stand for it.
    fn from_segments(segments: &[String]) -> Option<Self>;
}

impl FromSegments for () {
    fn from_segments(segments: &[String]) -> Option<()> {
        segments.is_empty().then_some(())
    }
}

impl FromSegments for i64 {
    fn from_segments(segments: &[String]) -> Option<i64> {
        let [number] = segments else { return None };
        number.parse().ok()
    }
}

/// A name of one segment, such as an instance's id.
#[derive(Clone, Debug)]
pub struct Name(pub String);

impl FromStr for Name {
    type Err = Infallible;

    fn from_str(segment: &str) -> Result<Name, Infallible> {
        Ok(Name(decode(segment)))
    }
}

impl FromSegments for Name {
    fn from_segments(segments: &[String]) -> Option<Name> {
        let [name] = segments else { return None };
        Some(Name(name.clone()))
    }
}

/// A deployment group's name, `application/environment`.
#[derive(Clone, Debug)]
pub struct GroupName(pub String);

impl FromSegments for GroupName {
    fn from_segments(segments: &[String]) -> Option<GroupName> {
        let [application, environment] = segments else { return None };
        Some(GroupName(format!("{application}/{environment}")))
    }
}

/// Takes the requests of a route and extracts what its path names.
pub fn at<T: FromSegments>(route: Route) -> BoxedFilter<(T,)> {
    warp::method()
        .and(warp::path::full())
        .and_then(move |method: Method, path: FullPath| {
            let segments = route.segments(path.as_str()).filter(|_| method.as_str() == route.method);
            let decoded = segments.map(|segments| segments.into_iter().map(decode).collect::<Vec<_>>());
            let found = decoded.and_then(|segments| T::from_segments(&segments));
            future::ready(found.ok_or_else(warp::reject::not_found))
        })
        .boxed()
}

fn decode(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

//! A route's description: its method and path, whom it is for, what it takes and answers.

use serde::{Serialize, de::DeserializeOwned};
use std::marker::PhantomData;

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Anybody.
    Public,
    /// Whoever has a token, in the header `Authorization: Bearer TOKEN`.
    Api,
    /// Whoever has signed in to the page.
    Session,
    /// An instance, with a token that is good for one bundle or one attempt; its handler checks it.
    Host,
    /// Whoever can sign the request; its handler checks that.
    Signed,
}

/// A type of this module, as the table of routes refers to it.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The type's name.
    pub name: fn() -> &'static str,
    /// Reads JSON as this type and writes it again: what is lost on the way is not part of the shape.
    pub rewrite: fn(&str) -> serde_json::Result<serde_json::Value>,
}

impl Shape {
    /// The shape of a type.
    pub(super) const fn of<T: Serialize + DeserializeOwned>() -> Shape {
        Shape {
            name: std::any::type_name::<T>,
            rewrite: |text| serde_json::to_value(serde_json::from_str::<T>(text)?),
        }
    }
}

/// What a request or an answer consists of.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    /// Nothing, or nothing that is read.
    Empty,
    /// A JSON object.
    Json(Shape),
    /// The parameters after the path's `?`.
    Query(Shape),
    /// Log rows as they come: JSON lines, server-sent events or plain text, as the header `Accept` says.
    Rows(Shape),
    /// The fields of an HTML form.
    Form,
    /// An HTML page, a part of one, or a file that belongs to it.
    Page,
    /// Plain text of a line.
    Text,
    /// Bytes as they are.
    Bytes,
}

/// A route: `{}` stands for one segment of the path.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The HTTP method.
    pub method: &'static str,
    /// The path's template.
    pub path: &'static str,
    /// Who may use it.
    pub role: Role,
    /// What it takes.
    pub request: Body,
    /// What it answers when it succeeds; an error is an [`ErrorAnswer`](super::ErrorAnswer) or a page that shows one.
    pub answer: Body,
}

impl Route {
    /// The segments of `path` that stand for the template's `{}`, as they are written; `None` if it is another path.
    pub fn segments<'a>(&self, path: &'a str) -> Option<Vec<&'a str>> {
        let (mut template, mut path) = (self.path.split('/'), path.split('/'));
        let mut segments = Vec::new();
        loop {
            match (template.next(), path.next()) {
                (None, None) => return Some(segments),
                (Some("{}"), Some(segment)) if !segment.is_empty() => segments.push(segment),
                (Some(wanted), Some(segment)) if wanted == segment => {}
                _ => return None,
            }
        }
    }

    /// The path with these segments in the places of `{}`; whoever calls has encoded them.
    pub fn path_with(&self, segments: &[String]) -> String {
        let mut segments = segments.iter();
        let parts = self.path.split('/').map(|part| match part {
            "{}" => segments.next().map_or("", String::as_str),
            fixed => fixed,
        });
        parts.collect::<Vec<_>>().join("/")
    }
}

/// A route of the API together with the types of its request and its answer.
#[derive(Debug)]
pub struct Call<Q, A> {
    route: Route,
    status: u16,
    shapes: PhantomData<fn(&Q) -> A>,
}

impl<A: Serialize + DeserializeOwned> Call<(), A> {
    /// A call whose request has no body.
    pub(super) const fn bare(method: &'static str, path: &'static str) -> Self {
        let answer = Body::Json(Shape::of::<A>());
        Call::of(Route { method, path, role: Role::Api, request: Body::Empty, answer })
    }
}

impl<Q: Serialize + DeserializeOwned, A: Serialize + DeserializeOwned> Call<Q, A> {
    /// A call whose request is a JSON object.
    pub(super) const fn json(method: &'static str, path: &'static str) -> Self {
        let (request, answer) = (Body::Json(Shape::of::<Q>()), Body::Json(Shape::of::<A>()));
        Call::of(Route { method, path, role: Role::Api, request, answer })
    }

    /// A `GET` whose request is the parameters after the path's `?`.
    pub(super) const fn query(path: &'static str) -> Self {
        let (request, answer) = (Body::Query(Shape::of::<Q>()), Body::Json(Shape::of::<A>()));
        Call::of(Route { method: "GET", path, role: Role::Api, request, answer })
    }

    /// A `GET` with parameters whose answer is a stream of log rows.
    pub(super) const fn rows(path: &'static str) -> Self {
        let (request, answer) = (Body::Query(Shape::of::<Q>()), Body::Rows(Shape::of::<A>()));
        Call::of(Route { method: "GET", path, role: Role::Api, request, answer })
    }
}

impl<Q, A> Call<Q, A> {
    const fn of(route: Route) -> Self {
        Call { route, status: 200, shapes: PhantomData }
    }

    /// The same call, answered with 201 since it makes something new.
    pub(super) const fn creating(self) -> Self {
        Call { status: 201, ..self }
    }

    /// The HTTP status of an answer that succeeds.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The route as it stands in the table.
    pub const fn route(&self) -> Route {
        self.route
    }
}

#[cfg(test)]
mod tests {
    use super::super::routes;

    #[test]
    fn a_path_is_filled_and_read_back() {
        let route = routes::LOCK_GROUP.route();
        let path = route.path_with(&["eval".to_owned(), "production".to_owned()]);
        assert_eq!(path, "/api/v1/groups/eval/production/lock");
        assert_eq!(route.segments(&path), Some(vec!["eval", "production"]));
        for other in ["/api/v1/groups/eval/lock", "/api/v1/groups//production/lock", "/groups/a/b/lock", ""] {
            assert_eq!(route.segments(other), None, "{other}");
        }
    }
}

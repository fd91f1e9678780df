//! The page: rendered here, alive by one small script, usable without it.

mod deployment;
mod groups;
mod list;
mod sign;

use super::{Web, gate::Caller, reply::Refusal};
use askama::Template;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use warp::{Filter, Reply, filters::BoxedFilter, reply::Response};

/// Nothing but our own script, style and forms; nobody frames us.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A form is a few hundred bytes.
const LARGEST_FORM: usize = 16 * 1024;

const SCRIPT: &str = include_str!("assets/drover.js");
const STYLE: &str = include_str!("assets/drover.css");

#[derive(Template)]
#[template(path = "error.html", config = "src/web/pages/askama.toml")]
struct ErrorPage<'a> {
    status: u16,
    message: &'a str,
}

/// All pages.
pub fn routes(web: Web) -> BoxedFilter<(Response,)> {
    let asset = warp::path!("assets" / String).and(warp::get()).map(|name: String| asset(&name));
    asset
        .or(sign::routes(web.clone()))
        .unify()
        .or(list::routes(web.clone()))
        .unify()
        .or(groups::routes(web.clone()))
        .unify()
        .or(deployment::routes(web))
        .unify()
        .boxed()
}

fn asset(name: &str) -> Response {
    let (kind, text) = match name {
        "drover.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "drover.css" => ("text/css; charset=utf-8", STYLE),
        _ => return error(&Refusal::new(StatusCode::NOT_FOUND, "not-found", "there is no such file")),
    };
    let mut response = text.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
    response
}

/// A template's text, as an answer.
fn html(template: &impl Template, status: StatusCode) -> Response {
    match template.render() {
        Ok(text) => {
            let mut response = warp::reply::with_status(warp::reply::html(text), status).into_response();
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(e) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "page", format!("making the page: {e}"))
            .into_response(),
    }
}

/// The refusal as a page: the same words as in the API.
pub fn error(refusal: &Refusal) -> Response {
    html(&ErrorPage { status: refusal.status.as_u16(), message: &refusal.message }, refusal.status)
}

fn page(result: Result<Response, Refusal>) -> Response {
    result.unwrap_or_else(|refusal| error(&refusal))
}

/// On to another page.
fn see(path: &str) -> Response {
    let location = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
    warp::reply::with_header(StatusCode::SEE_OTHER, header::LOCATION, location).into_response()
}

/// Where a person without a session is sent; back to where they wanted to go, once they have signed in.
pub fn to_sign_in(method: &Method, uri: &Uri) -> Response {
    let wanted = uri.path_and_query().map_or("/", |path| path.as_str());
    if method != Method::GET || wanted == "/" {
        return see("/sign-in");
    }
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("next", wanted).finish();
    see(&format!("/sign-in?{query}"))
}

/// The fields of a form.
struct Form(Vec<(String, String)>);

impl Form {
    fn read(body: &[u8]) -> Form {
        Form(form_urlencoded::parse(body).into_owned().collect())
    }

    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.trim())
    }
}

/// A form of a session, with its word checked.
fn checked(web: &Web, caller: &Caller, body: &[u8]) -> Result<Form, Refusal> {
    let form = Form::read(body);
    web.check_form(&caller.session, form.get("word"))?;
    Ok(form)
}

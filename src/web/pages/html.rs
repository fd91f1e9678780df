//! Answers that a browser gets: rendered templates, redirects, errors.

use crate::web::reply::Refusal;
use askama::Template;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use warp::reply::{Reply, Response};

/// What a page may load and send to: our own script, style and forms alone; nobody frames us.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

#[derive(Template)]
#[template(path = "error.html", config = "src/web/pages/askama.toml")]
struct ErrorPage<'a> {
    status: u16,
    message: &'a str,
}

/// Renders a template.
pub fn html(template: &impl Template, status: StatusCode) -> Response {
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

/// Shows a refusal as a page, in the same words as in the API.
pub fn error(refusal: &Refusal) -> Response {
    html(&ErrorPage { status: refusal.status.as_u16(), message: &refusal.message }, refusal.status)
}

/// A page, or the page that shows the refusal in its place.
pub fn page(result: Result<Response, Refusal>) -> Response {
    result.unwrap_or_else(|refusal| error(&refusal))
}

/// Sends the browser on to another page.
pub fn redirect(path: &str) -> Response {
    let location = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
    warp::reply::with_header(StatusCode::SEE_OTHER, header::LOCATION, location).into_response()
}

/// Sends a person without a session to sign in, and back to where they wanted to go once they have.
pub fn to_sign_in(method: &Method, uri: &Uri) -> Response {
    let wanted = uri.path_and_query().map_or("/", |path| path.as_str());
    if method != Method::GET || wanted == "/" {
        return redirect("/sign-in");
    }
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("next", wanted).finish();
    redirect(&format!("/sign-in?{query}"))
}

/// A SHA as the page shows it.
pub fn short(sha: &str) -> &str {
    sha.get(..12).unwrap_or(sha)
}

/// A moment as the page shows it.
pub fn moment(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

//! Reads the page's forms.

use crate::web::{access::Caller, context::Web, reply::Refusal};

/// The fields of a form.
pub struct Form(pub Vec<(String, String)>);

impl Form {
    /// Reads a request's body.
    pub fn read(body: &[u8]) -> Form {
        Form(form_urlencoded::parse(body).into_owned().collect())
    }

    /// A field's value without white space around it; empty if there is no such field.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.trim())
    }
}

/// Reads a form that a signed-in person sends, and checks its CSRF token.
pub fn checked(web: &Web, caller: &Caller, body: &[u8]) -> Result<Form, Refusal> {
    let form = Form::read(body);
    web.check_csrf_token(&caller.session, form.get("csrf_token"))?;
    Ok(form)
}

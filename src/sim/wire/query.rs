//! The query protocol: form parameters with `.member.N` in, XML out.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::ApiError;

#[derive(Default)]
struct Node {
    text: Option<String>,
    children: BTreeMap<String, Node>,
}

impl Node {
    fn insert(&mut self, path: &str, text: String) {
        match path.split_once('.') {
            None => self.children.entry(path.to_owned()).or_default().text = Some(text),
            Some((head, rest)) => self.children.entry(head.to_owned()).or_default().insert(rest, text),
        }
    }

    fn into_value(mut self) -> Value {
        if let Some(members) = self.children.remove("member") {
            let mut items: Vec<(u32, Value)> = members
                .children
                .into_iter()
                .filter_map(|(index, node)| Some((index.parse().ok()?, node.into_value())))
                .collect();
            items.sort_by_key(|(index, _)| *index);
            return Value::Array(items.into_iter().map(|(_, value)| value).collect());
        }
        match self.text {
            Some(text) if self.children.is_empty() => Value::String(text),
            _ => Value::Object(
                self.children.into_iter().map(|(k, v)| (k, v.into_value())).collect::<Map<_, _>>(),
            ),
        }
    }
}

/// Decodes a form body into the action's name and its parameters.
pub fn decode(body: &[u8]) -> (String, Value) {
    let mut root = Node::default();
    let mut action = String::new();
    for (name, value) in form_urlencoded::parse(body) {
        match &*name {
            "Action" => action = value.into_owned(),
            "Version" => {}
            path => root.insert(path, value.into_owned()),
        }
    }
    let tree = if root.children.is_empty() { Value::Object(Map::new()) } else { root.into_value() };
    (action, tree)
}

/// Writes `<ActionResponse>` around the result.
pub fn success(namespace: &str, action: &str, result: &Value, request_id: &str) -> String {
    let mut out = format!("<{action}Response xmlns=\"{namespace}\"><{action}Result>");
    contents(&mut out, result);
    out.push_str(&format!(
        "</{action}Result><ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>"
    ));
    out
}

/// Writes an `<ErrorResponse>`.
pub fn failure(namespace: &str, error: &ApiError, request_id: &str) -> String {
    let kind = if error.status >= 500 { "Receiver" } else { "Sender" };
    format!(
        "<ErrorResponse xmlns=\"{namespace}\"><Error><Type>{kind}</Type><Code>{}</Code><Message>{}</Message></Error>\
         <RequestId>{request_id}</RequestId></ErrorResponse>",
        quick_xml::escape::escape(error.code.as_str()),
        quick_xml::escape::escape(error.message.as_str()),
    )
}

fn contents(out: &mut String, value: &Value) {
    match value {
        Value::Null => {}
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(n) => out.push_str(&n.to_string()),
        Value::String(s) => out.push_str(&quick_xml::escape::escape(s.as_str())),
        Value::Array(items) => items.iter().for_each(|item| element(out, "member", item)),
        Value::Object(fields) => {
            fields.iter().filter(|(_, v)| !v.is_null()).for_each(|(name, v)| element(out, name, v));
        }
    }
}

fn element(out: &mut String, name: &str, value: &Value) {
    out.push_str(&format!("<{name}>"));
    contents(out, value);
    out.push_str(&format!("</{name}>"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_become_lists_in_order() {
        let (action, tree) = decode(
            b"Action=X&Version=1&Ids.member.2=b&Ids.member.1=a&Ids.member.10=c&Tags.member.1.Key=k&Tags.member.1.Value=&Empty=",
        );
        assert_eq!(action, "X");
        assert_eq!(tree, json!({"Ids": ["a", "b", "c"], "Tags": [{"Key": "k", "Value": ""}], "Empty": ""}));
        assert_eq!(decode(b"Action=X&Version=1").1, json!({}));
    }

    #[test]
    fn answers_are_escaped_and_nulls_left_out() {
        let xml = success("ns", "X", &json!({"A": ["<1>", true], "B": null, "C": {"D": 3}}), "r");
        assert_eq!(
            xml,
            "<XResponse xmlns=\"ns\"><XResult><A><member>&lt;1&gt;</member><member>true</member></A><C><D>3</D></C></XResult>\
             <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></XResponse>"
        );
    }
}

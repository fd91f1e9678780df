//! YAML as a tree that knows its lines: whatever is wrong in the file can be named with its place. Scalars stay text, since
//! `mode: 0755` and `mode: "0755"` are not the same.

use granit_parser::{Event, Parser, ScalarStyle};
use std::collections::HashMap;

/// An appspec has some hundred nodes; aliases may multiply them.
const MOST_NODES: usize = 20_000;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Scalar { text: String, quoted: bool },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) line: usize,
}

impl Node {
    /// What kind of value it is, for an error.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar { .. } => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "keys and values",
        }
    }

    fn size(&self) -> usize {
        1 + match &self.value {
            Value::Null | Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(Node::size).sum(),
            Value::Map(pairs) => pairs.iter().map(|(_, node)| node.size()).sum(),
        }
    }
}

/// Something that is begun and not ended: a list, or a map with the key whose value is awaited.
enum Open {
    List(Vec<Node>),
    Map(Vec<(Key, Node)>, Option<Key>),
}

struct Unfinished {
    line: usize,
    anchor: usize,
    open: Open,
}

/// Reads the first document of a text; none: it is empty.
pub(super) fn read(text: &str) -> Result<Option<Node>, (usize, String)> {
    let mut stack: Vec<Unfinished> = Vec::new();
    let mut anchors: HashMap<usize, Node> = HashMap::new();
    let mut nodes = 0;
    for item in Parser::new_from_str(text.trim_start_matches('\u{feff}')) {
        let (event, span) = item.map_err(|e| (e.marker().line(), e.info()))?;
        let line = span.start.line();
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let quoted = style != ScalarStyle::Plain;
                let null = !quoted && ["", "~", "null", "Null", "NULL"].contains(&&*text);
                let value =
                    if null { Value::Null } else { Value::Scalar { text: text.into_owned(), quoted } };
                (Node { line, value }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                stack.push(Unfinished { line, anchor, open: Open::List(Vec::new()) });
                continue;
            }
            Event::MappingStart(_, anchor, _) => {
                stack.push(Unfinished { line, anchor, open: Open::Map(Vec::new(), None) });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Unfinished { line, anchor, open }) = stack.pop() else { continue };
                let value = match open {
                    Open::List(items) => Value::List(items),
                    Open::Map(pairs, _) => Value::Map(pairs),
                };
                (Node { line, value }, anchor)
            }
            Event::Alias(anchor) => {
                let node = anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| (line, "an alias that refers to itself".to_owned()))?;
                nodes += node.size();
                (node, 0)
            }
            _ => continue,
        };
        nodes += 1;
        if nodes > MOST_NODES {
            return Err((line, format!("it has more than {MOST_NODES} values")));
        }
        if anchor != 0 {
            anchors.insert(anchor, node.clone());
        }
        match stack.last_mut().map(|unfinished| &mut unfinished.open) {
            None => return Ok(Some(node)),
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map(pairs, key)) => match key.take() {
                Some(Key { name, .. }) if name == "<<" => merge(pairs, node),
                Some(key) => pairs.push((key, node)),
                None => match node.value {
                    Value::Scalar { text, .. } => *key = Some(Key { name: text, line }),
                    _ => return Err((line, format!("{} can't be a key", node.kind()))),
                },
            },
        }
    }
    Ok(None)
}

/// `<<: *other`: what `other` has and this map hasn't.
fn merge(pairs: &mut Vec<(Key, Node)>, from: Node) {
    let maps = match from.value {
        Value::List(items) => items,
        value => vec![Node { line: from.line, value }],
    };
    for map in maps {
        let Value::Map(more) = map.value else { continue };
        for (key, node) in more {
            if !pairs.iter().any(|(known, _)| known.name == key.name) {
                pairs.push((key, node));
            }
        }
    }
}

//! The expression of a change: what is set, what is removed, and what must still be there for it to happen.

use std::collections::HashMap;
use std::fmt::Write as _;

use aws_sdk_dynamodb::types::AttributeValue;

use super::super::item::Item;
use super::field::Key;
use super::layout::{INTERNAL_STATUS, Layout, STATUS};

/// How many of the attributes that change are compared with what was read; an expression has a limit of operators.
const COMPARED: usize = 80;

/// Expressions with their names and values.
#[derive(Debug, Default)]
pub(super) struct Expressions {
    pub(super) update: String,
    pub(super) condition: String,
    pub(super) names: HashMap<String, String>,
    pub(super) values: HashMap<String, AttributeValue>,
}

impl Expressions {
    fn name(&mut self, name: &str) -> String {
        let placeholder = format!("#{}", self.names.len());
        self.names.insert(placeholder.clone(), name.to_owned());
        placeholder
    }

    fn value(&mut self, value: &AttributeValue) -> String {
        let placeholder = format!(":{}", self.values.len());
        self.values.insert(placeholder.clone(), value.clone());
        placeholder
    }

    /// Adds that an attribute must be as it was read.
    fn require(&mut self, name: &str, read: &Item) {
        let named = self.name(name);
        let _ = match read.get(name) {
            Some(value) => {
                let value = self.value(value);
                write!(self.condition, " AND {named} = {value}")
            }
            None => write!(self.condition, " AND attribute_not_exists({named})"),
        };
    }

    /// The condition that there is an item.
    pub(super) fn exists(layout: Layout) -> Self {
        let mut expressions = Self::default();
        let id = expressions.name(layout.names().id);
        let _ = write!(expressions.condition, "attribute_exists({id})");
        expressions
    }

    /// The condition that an item is still the one that was read, as far as others let one tell: they know no
    /// version, but they touch one of these. It never holds for an item that is gone, so that a write after its
    /// deletion does not make one with half of its attributes.
    pub(super) fn unchanged(layout: Layout, read: &Item) -> Self {
        let names = layout.names();
        let mut expressions = Self::exists(layout);
        for name in [names.version, names.digest, layout.attribute_of(Key::UpdatedAt, read), STATUS] {
            expressions.require(name, read);
        }
        if layout != Layout::Own {
            expressions.require(INTERNAL_STATUS, read);
        }
        expressions
    }

    /// The change from what was read to what shall be. What it replaces must be what was read, too: what others have
    /// written meanwhile is never lost.
    pub(super) fn change(layout: Layout, read: &Item, target: &Item) -> Self {
        let mut expressions = Self::unchanged(layout, read);
        let mut changed: Vec<(&String, Option<&AttributeValue>)> = target
            .iter()
            .filter(|(name, value)| read.get(*name) != Some(value))
            .map(|(name, value)| (name, Some(value)))
            .chain(read.keys().filter(|name| !target.contains_key(*name)).map(|name| (name, None)))
            .collect();
        changed.sort_unstable_by_key(|(name, _)| *name);
        let compared: Vec<String> = changed
            .iter()
            .map(|(name, _)| (*name).clone())
            .filter(|name| !expressions.names.values().any(|required| required == name))
            .take(COMPARED)
            .collect();
        for name in compared {
            expressions.require(&name, read);
        }
        let (mut set, mut removed) = (Vec::new(), Vec::new());
        for (name, value) in changed {
            let named = expressions.name(name);
            match value {
                Some(value) => set.push(format!("{named} = {}", expressions.value(value))),
                None => removed.push(named),
            }
        }
        for (word, clauses) in [("SET", set), ("REMOVE", removed)] {
            if !clauses.is_empty() {
                let _ = write!(expressions.update, "{word} {} ", clauses.join(", "));
            }
        }
        expressions
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::item::text;
    use super::super::layout::Times;
    use super::*;

    #[test]
    fn only_what_differs_is_written_and_compared() {
        let read = Item::from([
            ("sessionId".to_owned(), text("s")),
            ("status".to_owned(), text("RUNNING")),
            ("same".to_owned(), text("x")),
            ("old".to_owned(), text("x")),
        ]);
        let mut target = read.clone();
        target.remove("old");
        target.insert("new".to_owned(), text("y"));
        let change = Expressions::change(Layout::Wallcrawler(Times::Text), &read, &target);
        let mut plain = (change.update.clone(), change.condition.clone());
        let mut placeholders: Vec<_> = change.names.iter().collect();
        placeholders.sort_unstable_by_key(|(placeholder, _)| {
            std::cmp::Reverse(placeholder.len() * 100 + placeholder.bytes().last().map_or(0, usize::from))
        });
        for (placeholder, name) in placeholders {
            plain = (plain.0.replace(placeholder, name), plain.1.replace(placeholder, name));
        }
        assert_eq!(plain.0, "SET new = :2 REMOVE old ");
        assert_eq!(
            plain.1,
            "attribute_exists(sessionId) AND attribute_not_exists(ccVersion) AND attribute_not_exists(ccDigest) AND \
             attribute_not_exists(updatedAt) AND status = :0 AND attribute_not_exists(internalStatus) AND \
             attribute_not_exists(new) AND old = :1"
        );
    }
}

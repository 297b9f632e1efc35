//! Expressions of DynamoDB: every name and value behind a placeholder, since many words are reserved.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use super::super::item::Item;
use super::key::URL;

/// What tells one write of an item from every other: a version, or the times that others keep.
const TELLING: [&str; 5] = ["version", "updated_at", "created_at", "ttl", "plain_etag"];

type Names = HashMap<String, String>;

type Values = HashMap<String, AttributeValue>;

/// What of an item tells it from what it was before, and will be after, any write.
pub(super) fn telling(item: &Item) -> Item {
    let told = TELLING.iter().filter_map(|name| item.get_key_value(*name));
    told.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The placeholders of one request.
#[derive(Debug, Default)]
pub(super) struct Terms {
    names: Names,
    values: Values,
}

impl Terms {
    /// With room for so many attributes: maps that grow are filled anew each time.
    pub(super) fn with_room(attributes: usize) -> Self {
        Self { names: HashMap::with_capacity(attributes), values: HashMap::with_capacity(attributes) }
    }

    /// Writes the placeholder of an attribute's name.
    pub(super) fn write_name(&mut self, text: &mut String, attribute: &str) {
        let placeholder = ["#", attribute].concat();
        text.push_str(&placeholder);
        self.names.entry(placeholder).or_insert_with(|| attribute.to_owned());
    }

    /// Writes the placeholder of a value.
    pub(super) fn write_value(&mut self, text: &mut String, value: AttributeValue) {
        let placeholder = [":", itoa::Buffer::new().format(self.values.len())].concat();
        text.push_str(&placeholder);
        self.values.insert(placeholder, value);
    }

    /// Writes `attribute <operator> value`.
    pub(super) fn write_comparison(
        &mut self,
        text: &mut String,
        attribute: &str,
        operator: &str,
        value: AttributeValue,
    ) {
        self.write_name(text, attribute);
        text.extend([" ", operator, " "]);
        self.write_value(text, value);
    }

    /// The placeholder of an attribute's name.
    pub(super) fn name(&mut self, attribute: &str) -> String {
        let mut text = String::new();
        self.write_name(&mut text, attribute);
        text
    }

    /// The placeholder of a value.
    pub(super) fn value(&mut self, value: AttributeValue) -> String {
        let mut text = String::new();
        self.write_value(&mut text, value);
        text
    }

    /// `attribute <operator> value`.
    pub(super) fn compare(&mut self, attribute: &str, operator: &str, value: AttributeValue) -> String {
        let mut text = String::with_capacity(attribute.len() + operator.len() + 8);
        self.write_comparison(&mut text, attribute, operator, value);
        text
    }

    /// That the item has the attribute.
    pub(super) fn exists(&mut self, attribute: &str) -> String {
        let mut text = "attribute_exists(".to_owned();
        self.write_name(&mut text, attribute);
        text + ")"
    }

    /// That it has not, or that there is no item.
    pub(super) fn lacks(&mut self, attribute: &str) -> String {
        let mut text = "attribute_not_exists(".to_owned();
        self.write_name(&mut text, attribute);
        text + ")"
    }

    /// That what is stored is still what was seen.
    pub(super) fn unchanged(&mut self, seen: Option<&Item>) -> String {
        let Some(seen) = seen else { return self.lacks(URL) };
        let mut clauses = vec![self.exists(URL)];
        for attribute in TELLING {
            clauses.push(match seen.get(attribute) {
                Some(value) => self.compare(attribute, "=", value.clone()),
                None => self.lacks(attribute),
            });
        }
        clauses.join(" AND ")
    }

    /// A projection of these attributes.
    pub(super) fn projection(&mut self, attributes: &[&str]) -> String {
        attributes.iter().map(|attribute| self.name(attribute)).collect::<Vec<_>>().join(", ")
    }

    /// What a request takes: its names, and its values if there are any.
    pub(super) fn finish(self) -> (Option<Names>, Option<Values>) {
        let (names, values) = (self.names, self.values);
        ((!names.is_empty()).then_some(names), (!values.is_empty()).then_some(values))
    }
}

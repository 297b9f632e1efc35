//! Partition keys: what the item of a result is called, and whose result an item is.

use super::super::item::{Item, read_text, text};
use crate::domain::{Key, Namespace};

/// The partition key of the table.
pub(super) const URL: &str = "url";

/// DynamoDB's limit for a partition key, in bytes; also for the keys of indexes.
pub(super) const MAX_KEY_BYTES: usize = 2048;

/// The partition key of a result: its url, where that says it all.
pub(super) fn partition(key: &Key) -> String {
    let whole = if says_it_all(key) {
        key.url().to_owned()
    } else {
        format!("{} {} {}", key.url(), key.namespace(), key.variant())
    };
    if whole.len() > MAX_KEY_BYTES { format!("blake3 {}", key.id()) } else { whole }
}

/// The attributes of which [`key_of`] makes the key again.
pub(super) fn attributes(key: &Key) -> Item {
    let partition = partition(key);
    let mut item = Item::new();
    if partition != key.url() {
        item.insert("page_url".to_owned(), text(key.url()));
        item.insert("namespace".to_owned(), text(key.namespace().as_str()));
        item.insert("variant".to_owned(), text(key.variant()));
    }
    item.insert(URL.to_owned(), text(partition));
    item
}

/// Whose result an item is; nothing if it is none's.
pub(super) fn key_of(item: &Item) -> Option<Key> {
    let partition = read_text(item, URL)?;
    // A document may have fields of these names: they count only where the key says that they are ours.
    let key = if partition.contains(' ') {
        let namespace = Namespace::new(read_text(item, "namespace")?).ok()?;
        Key::new(&namespace, read_text(item, "page_url")?, read_text(item, "variant")?).ok()?
    } else {
        Key::new(&Namespace::default(), partition, "").ok()?
    };
    (self::partition(&key) == partition).then_some(key)
}

fn says_it_all(key: &Key) -> bool {
    key.variant().is_empty() && *key.namespace() == Namespace::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, url: &str, variant: &str) -> Key {
        Key::new(&Namespace::new(namespace).expect("a namespace"), url, variant).expect("a key")
    }

    #[test]
    fn partitions_are_frozen() {
        let long = format!("https://a/{}", "x".repeat(2039));
        for (namespace, url, variant, expected) in [
            ("default", "https://a/", "", "https://a/"),
            ("default", "https://a/", "m", "https://a/ default m"),
            ("tenant", "https://a/", "", "https://a/ tenant "),
            ("default", &long[..2048], "", &long[..2048]),
        ] {
            assert_eq!(partition(&key(namespace, url, variant)), expected);
        }
        for long in [key("default", &long, ""), key("default", &long[..2048], "m")] {
            assert_eq!(partition(&long), format!("blake3 {}", long.id()));
        }
    }

    #[test]
    fn a_key_comes_back_from_its_item() {
        let long = format!("https://a/{}", "x".repeat(4000));
        for key in [
            key("default", "https://a/", ""),
            key("default", "https://a/", "é"),
            key("tenant", "https://a/", ""),
            key("tenant", &long, "m"),
            key("default", &long, ""),
        ] {
            let back = key_of(&attributes(&key)).expect("a key");
            assert_eq!(format!("{back:?}"), format!("{key:?}"));
        }
    }

    #[test]
    fn other_items_have_no_key() {
        for url in
            ["part 0123 0", "object bodies/0123", "https://a/ b", "status probe", "blake3 00", "no url"]
        {
            assert!(key_of(&Item::from([(URL.to_owned(), text(url))])).is_none(), "{url}");
        }
        // A document in the plain layout may have such a field: its key is that of the item all the same.
        let mut item = attributes(&key("default", "https://a/", ""));
        item.insert("page_url".to_owned(), text("https://b/"));
        assert_eq!(key_of(&item).expect("a key").url(), "https://a/");
        // And one whose attributes are another's is nobody's.
        let mut item = attributes(&key("default", "https://a/", "m"));
        item.insert("variant".to_owned(), text("n"));
        assert!(key_of(&item).is_none());
    }
}

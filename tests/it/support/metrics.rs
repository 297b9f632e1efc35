//! Prometheus text, read back.

use std::collections::BTreeMap;

/// Every sample by its series as it is written: `name{label="value",…}`.
#[derive(Clone, Debug)]
pub(crate) struct Series(BTreeMap<String, String>);

impl Series {
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        Self(
            samples
                .map(|line| {
                    let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
                    (series.to_owned(), value.to_owned())
                })
                .collect(),
        )
    }

    /// The value of a series that must be there and counts something; `name` is without the prefix.
    #[track_caller]
    pub(crate) fn of(&self, name: &str) -> u64 {
        let series = format!("crawlcache_{name}");
        let value = self.0.get(&series).unwrap_or_else(|| panic!("there is no series {series}"));
        value.parse().unwrap_or_else(|_| panic!("{series} is {value}"))
    }

    /// The value of a series that must be there and counts parts of something; `name` is without the prefix.
    #[track_caller]
    pub(crate) fn units(&self, name: &str) -> f64 {
        let series = format!("crawlcache_{name}");
        let value = self.0.get(&series).unwrap_or_else(|| panic!("there is no series {series}"));
        value.parse().unwrap_or_else(|_| panic!("{series} is {value}"))
    }

    /// The series of a family that are not zero, without the name: `{…}`.
    pub(crate) fn counted(&self, name: &str) -> Vec<(String, u64)> {
        let family = format!("crawlcache_{name}");
        let samples = self.0.iter().filter_map(|(series, value)| {
            let labels = series.strip_prefix(&family)?;
            Some((labels.to_owned(), value.parse().ok()?))
        });
        samples.filter(|(labels, value)| labels.starts_with('{') && *value != 0).collect()
    }

    /// The names of all series.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

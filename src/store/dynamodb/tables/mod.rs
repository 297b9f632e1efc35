//! Makes, describes, checks and deletes the two tables.
//!
//! What they should be is in `spec`; what they are is told by `describe`; `check` compares the two, and
//! `plan` and `apply` close the gap.

mod apply;
mod check;
mod describe;
mod orphans;
mod plan;
mod spec;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use apply::Applied;
pub use check::{Finding, Severity};
pub use describe::{Billing, Found, IndexDescription, TableDescription, TimeToLive, Told};
pub use orphans::{Orphans, Sweep, Swept};
pub use plan::{CreateOptions, Encryption, Step};
pub use spec::{KeyAttribute, KeyType, Keys, Projection};

use super::capacity::Table;
use super::failure::Failure;
use super::{Aws, BACKEND};
use crate::config;
use crate::store::{Error, Result};
pub(super) use describe::{describe_table, is_unsupported};
pub(super) use spec::TableSpec;

/// How long a table or an index may take to become active, unless told otherwise.
const PATIENCE: Duration = Duration::from_mins(10);

/// The tables that a configuration names.
#[derive(Clone, Debug)]
pub struct Tables {
    aws: Aws,
    specs: [TableSpec; 2],
    patience: Duration,
}

impl Tables {
    /// The tables of a configuration, wherever the connection leads.
    pub fn new(aws: Aws, config: &config::Dynamodb) -> Self {
        Self { aws, specs: TableSpec::all(config), patience: PATIENCE }
    }

    /// As it is, but every wait for a table or an index ends after this time.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Whether both tables can be used: one `DescribeTable` each. What is not as it should be and does no harm to
    /// reads and writes is logged.
    ///
    /// # Errors
    /// [`Error::MissingTable`] names what makes the table, [`Error::WrongSchema`] how it differs; others as they are.
    pub async fn ready(&self) -> Result<()> {
        let [results, sessions] = self.specs.each_ref().map(|spec| Box::pin(self.is_ready(spec)));
        futures_util::try_join!(results, sessions).map(|_| ())
    }

    async fn is_ready(&self, spec: &TableSpec) -> Result<()> {
        let backend = BACKEND;
        let name = &spec.name;
        let Some(said) = describe_table(&self.aws, name).await.map_err(|failure| about(name, failure))?
        else {
            let detail = format!("{name} does not exist; make it with `crawlcache tables create`");
            return Err(Error::MissingTable { backend, detail });
        };
        let found = Found::of(spec, &said)?;
        let spec = spec.clone().with_keys(&found.keys);
        if found.keys != spec.keys {
            let detail = format!("the key of {name} is {}, and must be {}", found.keys, spec.keys);
            return Err(Error::WrongSchema { backend, detail });
        }
        for index in &spec.indexes {
            match found.indexes.iter().find(|found| found.name == index.name) {
                Some(found) if index.keys.contains(&found.keys) => {}
                Some(found) => {
                    let (index, wanted) = (index.name, index.made_keys());
                    let detail = format!(
                        "the key of the index {index} of {name} is {}, and must be {wanted}",
                        found.keys
                    );
                    return Err(Error::WrongSchema { backend, detail });
                }
                None => tracing::warn!(
                    table = %name,
                    index = index.name,
                    "the index is missing: see `crawlcache tables check`"
                ),
            }
        }
        match found.status.as_str() {
            // All of them serve.
            "ACTIVE" | "UPDATING" => Ok(()),
            status => Err(Error::Unavailable { backend, detail: format!("the table {name} is {status}") }),
        }
    }

    /// Makes the tables that are missing, and waits until they are active. Another process may be doing the same.
    ///
    /// # Errors
    /// When a table cannot be made. What it could do without, such as recovery, is logged only.
    pub async fn create_missing(&self) -> Result<()> {
        for spec in &self.specs {
            let name = &spec.name;
            let there = describe_table(&self.aws, name).await.map_err(|failure| about(name, failure))?;
            let found = there.as_ref().map(|said| Found::of(spec, said)).transpose()?;
            let there = TableDescription { table: spec.table, name: name.clone(), found };
            for step in plan::steps(spec, &there, &CreateOptions::default()) {
                match apply::apply(&self.aws, &step, self.patience).await {
                    Ok(applied) => tracing::info!(table = %name, ?applied, "{step}"),
                    Err(failure) if step.is_needed() => return Err(about(name, failure)),
                    Err(failure) => tracing::warn!(table = %name, detail = failure.detail, "cannot {step}"),
                }
            }
        }
        Ok(())
    }

    /// Both tables, with everything that can be told about them.
    ///
    /// # Errors
    /// When it is not told whether a table exists, or what it is.
    pub async fn describe(&self) -> Result<Vec<TableDescription>> {
        let mut all = Vec::with_capacity(self.specs.len());
        for spec in &self.specs {
            let description = describe::whole(&self.aws, spec).await;
            all.push(description.map_err(|failure| about(&spec.name, failure))?);
        }
        Ok(all)
    }

    /// What is right and wrong with both tables.
    ///
    /// # Errors
    /// As [`Tables::describe`].
    pub async fn check(&self) -> Result<Vec<Finding>> {
        let all = self.describe().await?;
        let pairs = self.specs.iter().zip(&all);
        Ok(pairs.flat_map(|(spec, description)| check::findings(spec, description)).collect())
    }

    /// What has to be done so that the tables are as they should be. Tables that exist are left alone unless
    /// [`CreateOptions::update`] says otherwise, and those of Wallcrawler always.
    ///
    /// # Errors
    /// As [`Tables::describe`].
    pub async fn plan(&self, options: &CreateOptions) -> Result<Vec<Step>> {
        let all = self.describe().await?;
        let pairs = self.specs.iter().zip(&all);
        Ok(pairs.flat_map(|(spec, description)| plan::steps(spec, description, options)).collect())
    }

    /// Carries out one step of a plan. It may be done again.
    ///
    /// # Errors
    /// What the service said; [`Error::Timeout`] when a wait took too long, though what was begun goes on.
    pub async fn apply(&self, step: &Step) -> Result<Applied> {
        apply::apply(&self.aws, step, self.patience).await.map_err(|failure| about(step.table(), failure))
    }

    /// Deletes a table with everything in it, and waits until it is gone; false when there is none.
    ///
    /// # Errors
    /// What the service said, such as that the table is protected.
    pub async fn delete(&self, table: Table) -> Result<bool> {
        let spec = self.spec(table);
        let deleted = apply::delete(&self.aws, &spec.name, self.patience).await;
        deleted.map_err(|failure| about(&spec.name, failure))
    }

    fn spec(&self, table: Table) -> &TableSpec {
        self.specs.iter().find(|spec| spec.table == table).expect("there is one of each")
    }
}

/// A failure that names the table.
fn about(name: &str, mut failure: Failure) -> Error {
    if !failure.detail.contains(name) {
        failure.detail = format!("{name}: {}", failure.detail);
    }
    failure.into()
}

//! The SQL for operators: taken out of the guide, for a table of its own.

use session_runtime::{Databag, SessionId};

/// The bag whose table the SQL is for.
#[derive(Databag)]
#[databag(table = "operators_of_the_guide")]
pub(super) struct Shop {
    #[databag(user_id)]
    pub(super) user_id: Option<i64>,
    #[databag(column, index)]
    pub(super) tenant: Option<String>,
}

/// A session that the SQL ends by its id.
const ID: &str = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f809";

/// Returns the statements of a section: those that read, and those that delete.
pub(super) fn statements(section: &str, id: SessionId) -> (Vec<String>, Vec<String>) {
    let page = include_str!("../../docs/guide/operators.md");
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).expect("the guide has the section");
    let section = rest.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next());
    let id = id.to_string();
    let sql = |statement: &str| {
        let sql = statement.trim().replace(ID, &id).replace(&ID[..8], &id[..8]);
        sql.replace("FROM sessions", &format!("FROM {}", Shop::SCHEMA.table))
    };
    let all = blocks.flat_map(|block| block.split(';')).map(sql).filter(|sql| !sql.is_empty());
    all.partition(|sql| !sql.starts_with("DELETE"))
}

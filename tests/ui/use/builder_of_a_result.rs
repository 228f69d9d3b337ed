use session_runtime::{Databag, Sessions, SqliteStore};

#[derive(Databag)]
struct Shop {
    visits: u32,
}

fn main() {
    let _ = Sessions::<Shop>::builder(SqliteStore::open("sessions.db"));
}

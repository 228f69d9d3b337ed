use session_runtime::{Databag, Error, Sessions, SqliteStore};

#[derive(Databag)]
struct Shop {
    visits: u32,
}

async fn start(store: SqliteStore) -> Result<(), Error> {
    Sessions::<Shop>::builder(store).build().await.map(drop)
}

fn main() {
    let _ = start;
}

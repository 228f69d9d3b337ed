use session_runtime::{Sessions, SqliteStore};

struct Shop;

fn main() {
    let _ = |store: SqliteStore| Sessions::<Shop>::builder(store);
}

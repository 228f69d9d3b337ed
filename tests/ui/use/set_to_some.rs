use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    count: Option<i64>,
}

fn main() {
    Shop::defaults().set_count(Some(7));
}

use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    name: Option<String>,
}

fn main() {
    Shop::defaults().set_name(None);
}

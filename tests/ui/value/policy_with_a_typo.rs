use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(merge = "entires")]
    cart: std::collections::BTreeMap<String, u32>,
}

fn main() {}

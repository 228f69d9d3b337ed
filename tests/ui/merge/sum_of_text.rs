use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(merge = "sum")]
    name: String,
}

fn main() {}

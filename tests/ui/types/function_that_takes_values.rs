use session_runtime::Databag;

fn longer(_: String, ours: String, _: String) -> String {
    ours
}

#[derive(Databag)]
struct Shop {
    #[databag(merge = longer)]
    name: String,
}

fn main() {}

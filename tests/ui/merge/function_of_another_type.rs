use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(merge = longer)]
    count: u32,
}

fn longer(_: &String, ours: &String, _: &String) -> String {
    ours.clone()
}

fn main() {}

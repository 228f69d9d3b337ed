use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(column)]
    tags: Vec<String>,
}

fn main() {}

use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(flow)]
    oauth: Option<String>,
}

fn main() {}

use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(with = 5)]
    notice: Option<String>,
}

fn main() {}

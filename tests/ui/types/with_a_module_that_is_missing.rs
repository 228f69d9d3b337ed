use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(with = nowhere)]
    notice: Option<String>,
}

fn main() {}

use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(alias = "")]
    notice: Option<String>,
}

fn main() {}

use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(accessor = "the notice")]
    notice: Option<String>,
}

fn main() {}

use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(accessor = "message", accessors = false)]
    notice: Option<String>,
}

fn main() {}

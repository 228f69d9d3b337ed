use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(idle = "30m")]
    notice: Option<String>,
}

fn main() {}

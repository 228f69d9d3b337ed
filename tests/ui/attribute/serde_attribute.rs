use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(skip_serializing_if = "Option::is_none")]
    notice: Option<String>,
}

fn main() {}

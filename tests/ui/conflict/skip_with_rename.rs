use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(skip, rename = "message")]
    notice: Option<String>,
}

fn main() {}

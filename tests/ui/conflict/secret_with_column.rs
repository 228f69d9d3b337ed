use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(secret, column)]
    notice: Option<String>,
}

fn main() {}

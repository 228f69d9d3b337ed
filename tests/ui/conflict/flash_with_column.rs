use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(flash, column)]
    notice: Option<String>,
}

fn main() {}

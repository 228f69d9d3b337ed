use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(flash(true))]
    notice: Option<String>,
}

fn main() {}

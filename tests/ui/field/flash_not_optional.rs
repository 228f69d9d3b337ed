use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(flash)]
    notice: String,
}

fn main() {}

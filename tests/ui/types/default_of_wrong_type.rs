use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(default = "light")]
    theme: u32,
}

fn main() {}

use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(default = NOWHERE)]
    theme: u32,
}

fn main() {}

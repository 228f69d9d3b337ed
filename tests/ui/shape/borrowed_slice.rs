use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    tags: &'static [u32],
}

fn main() {}

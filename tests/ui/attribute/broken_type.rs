use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(from = Vec<(u8 u8)>)]
    notice: Option<u32>,
}

fn main() {}

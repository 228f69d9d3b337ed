use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(default = sum(1 2), flash = 1)]
    notice: Option<u32>,
}

fn main() {}

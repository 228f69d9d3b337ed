use session_runtime::Databag;

struct Old;

impl From<Old> for u32 {
    fn from(_: Old) -> Self {
        0
    }
}

#[derive(Databag)]
struct Shop {
    #[databag(from = Old)]
    visits: u32,
}

fn main() {}

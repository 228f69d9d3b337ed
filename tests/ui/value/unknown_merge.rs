use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(merge = "summ")]
    visits: u32,
}

fn main() {}

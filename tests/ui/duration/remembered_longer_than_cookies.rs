use session_runtime::Databag;

#[derive(Databag)]
#[databag(remember = "2000d")]
struct Shop {
    visits: u32,
}

fn main() {}

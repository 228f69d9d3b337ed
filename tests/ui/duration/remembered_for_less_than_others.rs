use session_runtime::Databag;

#[derive(Databag)]
#[databag(absolute = "12h", remember = "1h")]
struct Shop {
    visits: u32,
}

fn main() {}

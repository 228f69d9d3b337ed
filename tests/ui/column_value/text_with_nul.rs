use session_runtime::ColumnValue;

#[derive(ColumnValue)]
enum Plan {
    #[column(rename = "a\0b")]
    Free,
}

fn main() {}

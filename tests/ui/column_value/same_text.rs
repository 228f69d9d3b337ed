use session_runtime::ColumnValue;

#[derive(ColumnValue)]
enum Plan {
    Free,
    #[column(rename = "Free")]
    Trial,
}

fn main() {}

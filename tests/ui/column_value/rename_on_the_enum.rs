use session_runtime::ColumnValue;

#[derive(ColumnValue)]
#[column(rename = "plan")]
enum Plan {
    Free,
}

fn main() {}

#[derive(ColumnValue)]
#[column(rename_all = "kebab-case")]
enum Theme {
    Light,
    #[column(rename = "night")]
    Dark,
    HighContrast,
}

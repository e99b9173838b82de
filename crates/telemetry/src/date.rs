//! [`date`]: a moment as people read it.

/// A moment in UTC. The calendar is counted from 1 March of year 0, which puts the leap day at the year's end.
pub fn date(unix_ms: u64) -> String {
    let (days, second) = (unix_ms / 86_400_000, unix_ms / 1000 % 86_400);
    let day = days + 719_468;
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day_of_month:02} {hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_know_leap_days_and_ends_of_years() {
        let day = 86_400_000;
        assert_eq!(date(11_016 * day), "2000-02-29 00:00:00Z");
        assert_eq!(date(11_017 * day - 1), "2000-02-29 23:59:59Z");
        assert_eq!(date(11_017 * day), "2000-03-01 00:00:00Z");
        assert_eq!(date(20_454 * day - 1), "2025-12-31 23:59:59Z");
    }
}

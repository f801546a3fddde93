//! The `date` field: RFC 9110 §5.6.7 IMF-fixdate.

use crate::clock::UnixSecs;

/// Length of an IMF-fixdate, in bytes.
pub const DATE_LEN: usize = "Sun, 06 Nov 1994 08:49:37 GMT".len();

/// 31 December 9999, 23:59:59: the last second that the format can say.
const LAST: u64 = 253_402_300_799;

/// The text of one second, kept until the second is over.
#[derive(Clone, Debug)]
pub struct DateCache {
    at: UnixSecs,
    text: [u8; DATE_LEN],
}

impl DateCache {
    /// A cache that holds the epoch.
    pub fn new() -> Self {
        Self { at: UnixSecs::default(), text: imf_fixdate(UnixSecs::default()) }
    }

    /// `now` as text. Formats at most once per second.
    pub fn text(&mut self, now: UnixSecs) -> &[u8; DATE_LEN] {
        if self.at != now {
            *self = Self { at: now, text: imf_fixdate(now) };
        }
        &self.text
    }
}

impl Default for DateCache {
    fn default() -> Self {
        Self::new()
    }
}

/// `at` as `Sun, 06 Nov 1994 08:49:37 GMT`. Times past the year 9999 read as its last second.
pub fn imf_fixdate(at: UnixSecs) -> [u8; DATE_LEN] {
    const WEEKDAYS: [[u8; 3]; 7] = [*b"Thu", *b"Fri", *b"Sat", *b"Sun", *b"Mon", *b"Tue", *b"Wed"];
    const MONTHS: [([u8; 3], u64); 12] = [
        (*b"Jan", 31),
        (*b"Feb", 28),
        (*b"Mar", 31),
        (*b"Apr", 30),
        (*b"May", 31),
        (*b"Jun", 30),
        (*b"Jul", 31),
        (*b"Aug", 31),
        (*b"Sep", 30),
        (*b"Oct", 31),
        (*b"Nov", 30),
        (*b"Dec", 31),
    ];
    let secs = at.get().min(LAST);
    let (days, clock) = (secs / 86_400, secs % 86_400);

    let (year, mut day) = year_and_day(days);
    let mut month = *b"Dec";
    for (index, (name, length)) in MONTHS.into_iter().enumerate() {
        let length = length + u64::from(index == 1 && is_leap(year));
        if day < length {
            month = name;
            break;
        }
        day -= length;
    }
    let weekday = WEEKDAYS.into_iter().cycle().nth(usize::try_from(days % 7).unwrap_or(0)).unwrap_or(*b"Thu");

    let [d1, d2] = two(day + 1);
    let ([y1, y2], [y3, y4]) = (two(year / 100), two(year % 100));
    let ([h1, h2], [m1, m2], [s1, s2]) = (two(clock / 3600), two(clock / 60 % 60), two(clock % 60));
    let ([w1, w2, w3], [n1, n2, n3]) = (weekday, month);
    [
        w1, w2, w3, b',', b' ', d1, d2, b' ', n1, n2, n3, b' ', y1, y2, y3, y4, b' ', h1, h2, b':', m1, m2,
        b':', s1, s2, b' ', b'G', b'M', b'T',
    ]
}

/// The year that holds day `days` since the epoch, and the day's number in it, from zero.
fn year_and_day(days: u64) -> (u64, u64) {
    // An average year is a little longer than 365 days, so this year is never too early, and walks back a few.
    let mut year = 1970 + days / 365;
    loop {
        let first = first_day(year);
        if first <= days {
            return (year, days - first);
        }
        year -= 1;
    }
}

/// The number of 1 January of `year`, in days since the epoch.
const fn first_day(year: u64) -> u64 {
    let before = year - 1;
    (year - 1970) * 365 + (before / 4 - 1969 / 4) - (before / 100 - 1969 / 100) + (before / 400 - 1969 / 400)
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// The last two decimal digits of `number`.
fn two(number: u64) -> [u8; 2] {
    let digit = |number: u64| b'0' + u8::try_from(number % 10).unwrap_or(0);
    [digit(number / 10), digit(number)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(secs: u64) -> String {
        String::from_utf8(imf_fixdate(UnixSecs::new(secs)).to_vec()).unwrap()
    }

    #[test]
    fn known_dates_read_as_rfc_9110_section_5_6_7_writes_them() {
        assert_eq!(text(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(text(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(text(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(text(951_868_799), "Tue, 29 Feb 2000 23:59:59 GMT");
        assert_eq!(text(1_798_761_599), "Thu, 31 Dec 2026 23:59:59 GMT");
        assert_eq!(text(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
        assert_eq!(text(LAST), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(text(u64::MAX), text(LAST));
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let (mut year, mut day) = (1970, 0);
        for days in 0..LAST / 86_400 {
            assert_eq!(year_and_day(days), (year, day));
            day += 1;
            if day == 365 + u64::from(is_leap(year)) {
                (year, day) = (year + 1, 0);
            }
        }
        assert_eq!(year, 9999);
    }

    #[test]
    fn the_cache_follows_the_clock() {
        let mut cache = DateCache::new();
        for secs in [0, 7, 7, 784_111_777, 3] {
            assert_eq!(cache.text(UnixSecs::new(secs)), &imf_fixdate(UnixSecs::new(secs)));
        }
    }
}

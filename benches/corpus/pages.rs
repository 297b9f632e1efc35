//! Pages made up from a seed: words by Zipf's law in the markup that sites wrap around them.

use std::fmt::Write as _;

/// Distinct words; a text of a few thousand words uses about a third of them.
const VOCABULARY: usize = 6000;

const SYLLABLES: [&str; 32] = [
    "an", "ber", "ca", "con", "da", "de", "er", "fi", "ga", "he", "in", "ka", "la", "li", "ma", "men", "mi",
    "na", "ne", "or", "pa", "per", "ra", "re", "sa", "si", "ta", "ter", "ti", "tion", "ul", "ver",
];

/// A source of numbers that only its seed decides: the `SplitMix64` generator.
pub(super) struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Every word, the most frequent ones first and short.
pub(super) fn vocabulary() -> Vec<String> {
    let mut dice = Dice(7);
    let mut word = |rank: usize| -> String {
        let syllables = 1 + u64::from(rank.ilog10()) / 2 + dice.below(3);
        (0..syllables).map(|_| SYLLABLES[usize::try_from(dice.below(32)).expect("below 32")]).collect()
    };
    (1..=VOCABULARY).map(&mut word).collect()
}

/// One page of about 30 KB.
pub(super) fn page(number: u64, words: &[String]) -> String {
    let mut html = String::with_capacity(40 << 10);
    let mut writer = Writer { dice: Dice(number), words, html: &mut html };
    writer.page(number);
    html
}

struct Writer<'a> {
    dice: Dice,
    words: &'a [String],
    html: &'a mut String,
}

impl Writer<'_> {
    fn page(&mut self, number: u64) {
        let title = self.text(6);
        self.put(&format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
             <meta name=\"description\" content=\"{title}\"><link rel=\"stylesheet\" href=\"/static/app.{number:08x}.css\">"
        ));
        let token = self.dice.next();
        self.put(&format!(
            "<script>window.dataLayer=window.dataLayer||[];window.page={{id:{number},token:\"{token:016x}\"}};</script></head>\n\
             <body class=\"layout layout--wide\"><nav class=\"nav\"><ul class=\"nav__list\">"
        ));
        for _ in 0..25 {
            let (slug, text) = (self.slug(), self.text(2));
            self.put(&format!(
                "\n<li class=\"nav__item\"><a class=\"nav__link\" href=\"/{slug}\">{text}</a></li>"
            ));
        }
        self.put("</ul></nav>\n<main id=\"content\"><article class=\"post\">");
        self.put(&format!("<h1 class=\"post__title\">{title}</h1>"));
        for _ in 0..7 {
            self.section();
        }
        self.put("</article></main>\n<footer class=\"footer\"><p>All rights reserved.</p></footer></body></html>\n");
    }

    fn section(&mut self) {
        let (id, heading, image) = (self.slug(), self.text(4), self.dice.next());
        self.put(&format!(
            "\n<section class=\"post__section\" id=\"{id}\"><h2>{heading}</h2><figure><img loading=\"lazy\" \
             src=\"/media/{image:016x}.jpg\" alt=\"{heading}\"></figure>"
        ));
        for _ in 0..5 {
            let (before, slug, link, after) = (self.text(30), self.slug(), self.text(3), self.text(25));
            self.put(&format!(
                "\n<p class=\"post__text\">{before} <a href=\"/{slug}\" class=\"link\">{link}</a>, {after}.</p>"
            ));
        }
        self.put("</section>");
    }

    fn put(&mut self, text: &str) {
        self.html.push_str(text);
    }

    /// `1/rank` chance for each word: the rank's logarithm is even.
    fn word(&mut self) -> &str {
        #[expect(clippy::cast_possible_truncation, reason = "masked to 32 bits")]
        let share = f64::from(self.dice.next() as u32) / f64::from(u32::MAX);
        #[expect(clippy::cast_precision_loss, reason = "there are a few thousand words")]
        let rank = (self.words.len() as f64).powf(share);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "1 to the number of words"
        )]
        let rank = rank as usize;
        &self.words[rank.clamp(1, self.words.len()) - 1]
    }

    fn text(&mut self, words: usize) -> String {
        let mut text = String::new();
        for place in 0..words {
            let gap = if place == 0 { "" } else { " " };
            let _ = write!(text, "{gap}{}", self.word());
        }
        text
    }

    fn slug(&mut self) -> String {
        let number = self.dice.below(1 << 20);
        let (section, first, second) = (self.text(1), self.text(1), self.text(1));
        format!("{section}/{first}-{second}-{number}")
    }
}

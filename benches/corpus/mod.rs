//! Crawl results to measure with, of any size: from the folder of pages that `BENCH_PAGES` names, else made up.

#![allow(dead_code, reason = "each program uses its own part of it")]

mod pages;

use std::path::{Path, PathBuf};

use serde_json::json;

/// How many pages are made up: enough that no two of a hundred large documents begin alike.
const MADE_UP: u64 = 256;

/// Pages, and results made of them.
pub(crate) struct Corpus(Vec<String>);

impl Corpus {
    /// Reads or makes the pages.
    pub(crate) fn load() -> Self {
        #[expect(clippy::disallowed_methods, reason = "a benchmark has no configuration")]
        let folder = std::env::var_os("BENCH_PAGES");
        let pages = match folder {
            Some(folder) => read_pages(Path::new(&folder)),
            None => {
                let words = pages::vocabulary();
                (0..MADE_UP).map(|number| pages::page(number, &words)).collect()
            }
        };
        assert!(!pages.is_empty(), "BENCH_PAGES names a folder without .html files");
        Self(pages)
    }

    /// The JSON of a result whose `measure` is about `bytes`. Another number, another document.
    pub(crate) fn document(&self, number: usize, bytes: usize, measure: impl Fn(&[u8]) -> usize) -> Vec<u8> {
        let mut html = bytes;
        let mut document = self.result(number, html);
        // The markup decides how many bytes of page become a byte of result, so approach it.
        for _ in 0..6 {
            html = (html * bytes / measure(&document).max(1)).max(64);
            document = self.result(number, html);
        }
        document
    }

    /// The JSON of one whole page: the one at `number` of `count` even distances.
    pub(crate) fn page(&self, number: usize, count: usize) -> Vec<u8> {
        let page = &self.0[number * self.0.len() / count % self.0.len()];
        of_html(number, page)
    }

    /// A result with so many bytes of HTML: consecutive pages, cut where it is enough.
    fn result(&self, number: usize, bytes: usize) -> Vec<u8> {
        let mut html = String::with_capacity(bytes + 8);
        for page in self.0.iter().cycle().skip(number * 7 % self.0.len()) {
            html.push_str(page);
            if html.len() >= bytes {
                break;
            }
        }
        html.truncate(html.floor_char_boundary(bytes));
        of_html(number, &html)
    }
}

/// The result of a crawl of this page.
fn of_html(number: usize, html: &str) -> Vec<u8> {
    let simple = simplify(html);
    let links: Vec<_> =
        simple.links.iter().map(|href| json!({"href": href, "text": "", "title": ""})).collect();
    let url = format!("https://bench.example/page/{number}");
    let result = json!({
        "url": url, "redirected_url": url, "success": true, "status_code": 200, "error_message": "",
        "session_id": null, "screenshot": null, "pdf": null, "mhtml": null, "extracted_content": null,
        "metadata": {"title": "A page", "description": null, "keywords": null, "author": null},
        "response_headers": {"content-type": "text/html; charset=utf-8", "etag": format!("\"{number:x}\"")},
        "media": {"images": [], "videos": [], "audios": []},
        "links": {"internal": links, "external": []},
        "markdown": {"raw_markdown": simple.markdown, "fit_markdown": "", "references_markdown": ""},
        "cleaned_html": simple.html, "html": html,
    });
    serde_json::to_vec(&result).expect("a value can be written")
}

fn read_pages(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    find_pages(folder, &mut files);
    files.sort();
    files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect()
}

/// All pages of a folder and those in it.
fn find_pages(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).expect("BENCH_PAGES names a folder that can be read");
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            find_pages(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "html" || extension == "htm") {
            files.push(path);
        }
    }
}

/// What a crawler makes of a page.
#[derive(Default)]
struct Simple {
    /// Without head, scripts, styles and attributes other than `href`.
    html: String,
    markdown: String,
    links: Vec<String>,
}

/// Walks tag by tag: crude, but the copies repeat the page as a crawler's do.
fn simplify(html: &str) -> Simple {
    let mut simple = Simple::default();
    let mut rest = html;
    while let Some((text, after)) = rest.split_once('<') {
        simple.text(text);
        let Some((tag, after)) = after.split_once('>') else { break };
        rest = after;
        let name = tag.split_ascii_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        if let "head" | "script" | "style" | "svg" = name.as_str() {
            rest = rest.split_once(&format!("</{name}>")).map_or("", |(_, after)| after);
        } else if !name.starts_with('!') {
            simple.tag(&name, tag);
        }
    }
    simple
}

impl Simple {
    fn text(&mut self, text: &str) {
        self.html.push_str(text);
        self.markdown.push_str(text.trim_matches('\n'));
    }

    fn tag(&mut self, name: &str, tag: &str) {
        let href = tag.split_once("href=\"").and_then(|(_, rest)| rest.split('"').next());
        match (name, href) {
            ("a", Some(href)) => {
                self.html.extend(["<a href=\"", href, "\">"]);
                self.markdown.push('[');
                self.links.push(href.to_owned());
            }
            _ => self.html.extend(["<", name, ">"]),
        }
        self.markdown.push_str(match name {
            "/a" => {
                let link = self.links.last().map(|href| format!("]({href})"));
                return self.markdown.push_str(&link.unwrap_or_default());
            }
            "h1" => "\n# ",
            "h2" => "\n## ",
            "h3" => "\n### ",
            "li" => "\n* ",
            "p" | "/h1" | "/h2" | "/h3" => "\n",
            _ => "",
        });
    }
}

//! The page's files.

use alloy_primitives::hex;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// A file of the page.
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// Its type.
    pub kind: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// The page itself. It names the others, and has neither script nor style of its own.
pub const PAGE: File =
    File { kind: "text/html; charset=utf-8", text: include_str!("page/dashboard.html") };

/// What it does.
pub const SCRIPT: File =
    File { kind: "text/javascript; charset=utf-8", text: include_str!("page/dashboard.js") };

/// How it draws.
pub const PLOTS: File =
    File { kind: "text/javascript; charset=utf-8", text: include_str!("page/plots.js") };

/// How it looks.
pub const STYLE: File =
    File { kind: "text/css; charset=utf-8", text: include_str!("page/dashboard.css") };

/// Its icon.
pub const ICON: File = File { kind: "image/svg+xml", text: include_str!("page/icon.svg") };

/// All of them.
const ALL: [File; 5] = [PAGE, SCRIPT, PLOTS, STYLE, ICON];

/// Which files this version has: an open page loads them anew when the server has others.
pub fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let mut hash = Sha256::new();
        for file in ALL {
            hash.update(file.text);
        }
        hex::encode(&hash.finalize()[..8])
    });
    &VERSION
}

/// What a browser may do with the page: load its own files, and talk to its own server. Nothing else, whatever gets into it.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_loads_nothing_from_elsewhere() {
        let bytes: usize = ALL.iter().map(|file| file.text.len()).sum();
        assert!(bytes < 200_000, "{bytes} bytes");
        for file in ALL {
            // The namespace of SVG is a name, and not an address that is loaded.
            let text = file.text.replace("http://www.w3.org/2000/svg", "");
            for wrong in ["http:", "https:", "//cdn", "@import", "url("] {
                assert!(!text.contains(wrong), "{wrong}: {}", file.kind);
            }
        }
    }

    #[test]
    fn no_text_becomes_markup_and_nothing_is_inline() {
        let markup = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "DOMParser",
            "srcdoc",
            "createContextualFragment",
            "setHTMLUnsafe",
        ];
        for file in [SCRIPT, PLOTS] {
            for wrong in markup {
                assert!(!file.text.contains(wrong), "{wrong}");
            }
        }
        for wrong in ["<style", " style=", " onclick", " onload", "javascript:"] {
            assert!(!PAGE.text.contains(wrong), "{wrong}");
        }
        // Every script is a file.
        let scripts = PAGE.text.matches("<script").count();
        assert_eq!(PAGE.text.matches("<script src=\"/").count(), scripts);
        assert_eq!(PAGE.text.matches("></script>").count(), scripts);
    }
}

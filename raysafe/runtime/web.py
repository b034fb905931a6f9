"""Headers of pages for people: nothing is loaded from elsewhere, nothing is framed, guessed at or kept."""

from __future__ import annotations


def page_headers(content_security_policy: str) -> dict[str, str]:
    """For every response of a page's server, its files and errors included."""
    return {
        "Content-Security-Policy": content_security_policy,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
    }

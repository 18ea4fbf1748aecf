"""A feed of posts: JSON arrays, JSON lines or objects, page by page, from ``since`` on."""

import json
from datetime import datetime

from fakes.http_faults import LocalServer, Reply


class PostsServer(LocalServer):
    """Serves `posts` (dicts with ``created_at``) in pages of `page_size`.

    `form` is ``array``, ``lines`` or ``object``; the next page stands in the Link header, for
    objects in ``next``. A request must carry `token` where there is one.
    """

    def __init__(self, posts, *, form="array", page_size=3, token=None):
        self.posts, self.form, self.page_size, self.token = posts, form, page_size, token
        super().__init__(self._answer)

    def _answer(self, asked):
        if self.token and asked.headers.get("authorization") != f"Bearer {self.token}":
            return Reply(401)
        since = datetime.fromisoformat(asked.query.get("since", "1970-01-01T00:00:00Z"))
        wanted = [p for p in self.posts if datetime.fromisoformat(p["created_at"]) >= since]
        offset = int(asked.query.get("offset", 0))
        page, rest = wanted[offset:][: self.page_size], wanted[offset + self.page_size :]
        link = None
        if rest:
            query = f"offset={offset + self.page_size}"
            query += f"&since={asked.query['since']}" if "since" in asked.query else ""
            link = f"{asked.path}?{query}"
        return self._written(page, link)

    def _written(self, page, link):
        if self.form == "object":
            return Reply.json({"posts": page, "next": link})
        headers = {"Link": f'<{link}>; rel="next"'} if link else {}
        if self.form == "array":
            return Reply.json(page, **headers)
        return Reply(200, "\n".join(map(json.dumps, page)).encode(), headers)

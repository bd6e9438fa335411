"use strict";

// The key stays in this page's memory: it is gone with the page.
const entrance = document.getElementById("entrance");
const trouble = document.getElementById("trouble");

entrance.addEventListener("submit", async (event) => {
  event.preventDefault();
  trouble.textContent = "";
  const key = document.getElementById("key").value.trim();
  try {
    const answer = await fetch("openapi.json", { headers: { Authorization: `Bearer ${key}` } });
    const content = await answer.json();
    if (!answer.ok) {
      trouble.textContent = answer.status === 401 ? "No such key." : content.detail;
      return;
    }
    entrance.hidden = true;
    show(content, key);
  } catch (error) {
    trouble.textContent = `The service does not answer: ${error.message}`;
  }
});

function show(document, key) {
  // Seen from wherever a proxy put the service.
  document.servers = [{ url: new URL(".", location.href).pathname.replace(/\/$/, "") || "/" }];
  const page = SwaggerUIBundle({
    spec: document,
    dom_id: "#page",
    deepLinking: true,
    docExpansion: "list",
    validatorUrl: null,
    onComplete: () => page.preauthorizeApiKey("key", key),
  });
}

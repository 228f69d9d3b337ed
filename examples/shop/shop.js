// Two tabs that collide: two requests of one session at the same time. All else works without this script.

const form = document.querySelector("#tabs form");

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const [button, told] = [form.querySelector("button"), document.querySelector("#told")];
  const revision = () => document.querySelector("#revision")?.textContent ?? "?";

  const add = async (tab, sku) => {
    const body = new URLSearchParams(new FormData(form));
    body.set("sku", sku);
    const answer = await fetch(form.action, { method: "POST", headers: { Accept: "application/json" }, body });
    if (!answer.ok) throw new Error(`Tab ${tab} was answered ${answer.status}.`);
    const { found } = await answer.json();
    return `Tab ${tab} found ${found} kinds of things in the cart, and added ${sku}.`;
  };

  const before = revision();
  button.disabled = true;
  told.textContent = "Both requests have read the session, and neither has written yet …";
  try {
    const lines = await Promise.all([add("A", "tea"), add("B", "coffee")]);
    const html = await (await fetch("/")).text();
    const page = new DOMParser().parseFromString(html, "text/html");
    for (const id of ["items", "row"]) document.getElementById(id).replaceWith(page.getElementById(id));
    told.textContent = [...lines, `Both are stored: revision ${before} became ${revision()}.`].join("\n");
  } catch (error) {
    told.textContent = error.message;
  } finally {
    button.disabled = false;
  }
});
